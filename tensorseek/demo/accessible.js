() => {
  // What Gradio leaves out for people who read a page with a keyboard or a screen reader.
  const mend = () => {
    // Hidden copies of the tabs, by which it measures their width, must take no focus.
    for (const each of document.querySelectorAll(".tab-container[aria-hidden=true]")) {
      if (!each.inert) each.inert = true;
    }
    // A name belongs to something that has a role.
    for (const each of document.querySelectorAll("div[aria-label]:not([role])")) {
      each.setAttribute("role", "group");
    }
  };
  let due = false;
  const later = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; mend(); });
  };
  new MutationObserver(later).observe(document.body, { childList: true, subtree: true });
  mend();
}
