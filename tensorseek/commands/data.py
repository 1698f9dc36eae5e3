"""`tensorseek data convert | inspect | serve`: data sets before training."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tensorseek import native_log
from tensorseek.commands import example
from tensorseek.commands.options import Json, Runs
from tensorseek.progress import TerminalProgress

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from finetune.data.inspect import Report, Split

app = typer.Typer(no_args_is_help=True, help="Converts, inspects and serves data sets.")

TextColumn = Annotated[str, typer.Option(help="Of a CSV or TSV file.")]
LabelColumn = Annotated[str, typer.Option(help="Of a CSV or TSV file.")]


@app.command(epilog=example("data convert data/train.jsonl build/train --shards 8"))
def convert(
    src: Annotated[Path, typer.Argument(help="JSONL, CSV, TSV, or a folder of pictures.")],
    dst: Annotated[Path, typer.Argument(help="Folder for the shards; made if missing.")],
    shards: Annotated[int | None, typer.Option(min=1, help="How many files.")] = None,
    shard_bytes: Annotated[
        int | None, typer.Option(min=1, help="Or: about how large a file; 128 MiB by default.")
    ] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    as_json: Json = False,
) -> None:
    """Makes TFRecord shards of like size; killed and run again, it goes on where it was."""
    from finetune.data import convert as conversion

    job = conversion.Conversion(
        source=src,
        target=dst,
        shards=shards,
        shard_bytes=shard_bytes,
        text_column=text_column,
        label_column=label_column,
    )
    index = conversion.run(job, TerminalProgress())
    examples = sum(shard.examples for shard in index.shards)
    size_bytes = sum(shard.size_bytes for shard in index.shards)
    if as_json:
        answer = {"path": str(dst), "kind": index.kind, "labels": index.labels}
        figures = {"shards": len(index.shards), "examples": examples, "size_bytes": size_bytes}
        typer.echo(json.dumps(answer | figures))
        return
    typer.echo(
        f"{dst}: {examples:,} {index.kind} examples, {len(index.labels)} labels, "
        f"{len(index.shards)} shards, {size_bytes / 1e6:.1f} MB"
    )


@app.command(epilog=example("data inspect data/train.jsonl data/test.jsonl --plot data.png"))
def inspect(
    splits: Annotated[list[Path], typer.Argument(help="TRAIN [DEV TEST], of any kind.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json: count tokens, not characters.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it into this file.")] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    as_json: Json = False,
) -> None:
    """Tells counts, balance, sizes, copies, leaks between splits, and how unlike shards are."""
    from finetune.data import inspect as inspection

    report = inspection.inspect(
        splits, tokenizer=tokenizer, text_column=text_column, label_column=label_column
    )
    if plot is not None:
        from finetune.data import plot as picture

        picture.save(report, plot)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    _show(report)


@app.command(epilog=example("data serve --workers 2"))
def serve(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes besides one that leads.")],
    runs: Runs = Path("runs"),
) -> None:
    """Prepares training batches in processes of their own, until Ctrl-C; prints their address."""
    native_log.redirect(runs / "native.log")
    from finetune.data import service

    with suppress(KeyboardInterrupt), service.local(workers) as address:
        typer.echo(address)
        threading.Event().wait()


def _show(report: Report) -> None:
    for split in report.splits:
        _show_split(split)
    for leak in report.leaks:
        typer.echo(f"{leak.examples:,} examples of {leak.second} are in {leak.first} too")
        for shown in leak.shown:
            typer.echo(f"    {shown}")


def _show_split(split: Split) -> None:
    sizes, copies = split.sizes, split.copies
    typer.echo(f"{split.path} ({split.kind}): {split.examples:,} examples")
    ranked = sorted(split.labels.items(), key=lambda item: (-item[1], item[0]))
    balance = ", ".join(f"{label} {count:,}" for label, count in ranked[:10])
    more = f", and {len(ranked) - 10} rarer" if len(ranked) > 10 else ""
    typer.echo(f"  labels: {balance}{more}; imbalance {split.imbalance:g}")
    typer.echo(
        f"  {sizes.unit}: {sizes.smallest:,} to {sizes.largest:,}, median {sizes.median:,}, "
        f"95th percentile {sizes.percentile_95:,}"
    )
    typer.echo(f"  copies: {copies.examples:,}, {copies.conflicting:,} with another label")
    for shown in copies.shown:
        typer.echo(f"    {shown}")
    if split.skew is not None:
        typer.echo(
            f"  {split.skew.shards} shards: largest {split.skew.bytes_ratio:g} times the smallest, "
            f"labels differ by at most {split.skew.label_distance:.1%}"
        )
