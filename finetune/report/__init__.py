"""report.html: how a training went and what came of it, in one file that needs nothing else.

run_report   what goes in                     page         the whole page, and writing it
curve        a line over steps or epochs      tables       figures, labels, worst examples
confusion    labels against answers           element      HTML and SVG elements, escaped
calibration  confidence against accuracy      style.css    light, dark, and narrow screens
of_task      a training's report              thumbnail    an example, small

    from finetune.report import page
    page.write(folder / "report.html", RunReport(title=…, recipe=…, result=…, …))

    from finetune.report import of_task
    page.write(folder / "report.html", of_task.report(task, data, result, figures))
"""
