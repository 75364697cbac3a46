"""`evaluate`: how well a task answers, by judged queries or by what exact search finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, open_existing
from lockstep.app.output import as_json, count, line, note, shown_id, snippet, table

if TYPE_CHECKING:
    from lockstep.evaluate.results import Change, Evaluation, Latency, QueryResult, Score, TaskEvaluation

QUERY_CHARACTERS = 80
FOUND_CHARACTERS = 90
SAY_EVERY_S = 5.0
IDS_SHOWN = 3
CHANGES_SHOWN = 2  # of each, where several tasks are compared


def evaluate(
    database: DatabasePath,
    task: TaskName,
    queries: Annotated[
        str | None, typer.Option("--queries", metavar="FILE", help='JSON Lines: {"_id": "q1", "text": "…"}')
    ] = None,
    qrels: Annotated[
        str | None, typer.Option("--qrels", metavar="FILE", help="Judgements, in BEIR's or TREC's form.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="TASK", help="Compare with another task; repeatable.")
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Compare with what an edit of the task is building.")] = False,
    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", help="vector, keyword, hybrid; several are compared.", show_default="vector"),
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option("-k", help="How far measures look; repeatable.", show_default="10, 100")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector, without the index.")] = False,
    sample: Annotated[int, typer.Option("--sample", help="Chunks to search with where no queries are given.")] = 200,
    worst: Annotated[int, typer.Option("--worst", min=0, help="How many of the worst queries to show.")] = 5,
    json: Json = False,
) -> None:
    """How well a task answers: by judged queries, or by what exact search finds."""
    with open_existing(database) as db:
        result = db.evaluate(
            [task, *(against or ())],
            queries,
            qrels,
            edit=edit,
            modes=mode or "vector",
            k=k or (10, 100),
            exact=exact,
            sample=sample,
            progress=teller(),
        )
    if json:
        as_json(evaluation_json(result))
    else:
        show_evaluation(result, worst)


def teller() -> Callable[[int, int], None]:
    """Says how far it has come, every few seconds."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SAY_EVERY_S and done < total:
            last = time.monotonic()
            note(f"{done:,} of {count(total, 'search', 'searches')}")

    return tell


def evaluation_json(result: Evaluation) -> dict[str, Any]:
    """An evaluation for a program."""
    return asdict(result)


# --- for people ---------------------------------------------------------------------------------------------------------


def show_evaluation(result: Evaluation, worst: int) -> None:
    """The measures, what they rest on, and the queries that are worth a look."""
    for task in result.tasks:
        line(f"Task {task.name}" + ("" if task.mode == "keyword" else f" with {task.model}"), bold=True)
    line(describe(result))
    line()
    if len(result.tasks) == 1:
        show_one(result, worst)
    elif len(result.tasks) == 2:
        show_comparison(result, worst)
    else:
        show_several(result, worst)
    for sentence in remarks(result):
        note(sentence, fg="yellow")


def describe(result: Evaluation) -> str:
    """What was measured, in a sentence."""
    if result.judged:
        way = "exact search" if result.exact else "the index"
        return f"{count(result.queries, 'judged query', 'judged queries')}, the first {result.depth} documents by {way}"
    return f"The index against exact search, {count(result.queries, 'query', 'queries')}"


def show_one(result: Evaluation, worst: int) -> None:
    """One task's measures, and its worst queries."""
    task = result.tasks[0]
    table(
        ["measure", "mean", "95 % interval"],
        [[name, f"{score.value:.3f}", interval(score)] for name, score in task.scores.items()],
    )
    line()
    line(latency_of(task.latency))
    show_worst(result, worst)


def show_worst(result: Evaluation, worst: int) -> None:
    """The queries that the first task answers worst."""
    task = result.tasks[0]
    name, perfect = next(iter(task.scores)), 1.0
    shown = [each for each in task.worst(worst) if each.scores[name] < perfect]
    if shown:
        line()
        line(f"Worst by {name}", bold=True)
    for each in shown:
        show_query(each, f"{each.scores[name]:.3f}", judged=result.judged)


def show_comparison(result: Evaluation, worst: int) -> None:
    """Two tasks side by side, and the queries that differ most."""
    first, second = result.tasks
    rows = [
        [
            name,
            f"{first.scores[name].value:.3f}",
            f"{second.scores[name].value:.3f}",
            f"{difference.value:+.3f}",
            interval(difference, signed=True),
            verdict(difference, first, second),
        ]
        for name, difference in result.differences.items()
    ]
    table(["measure", first.name, second.name, "difference", "95 % interval", "better"], rows)
    line()
    for task in result.tasks:
        line(f"{task.name}: {latency_of(task.latency)}")
    name, changes = next(iter(result.differences)), result.changed(worst)
    if changes:
        line()
        line(f"Changed most by {name}", bold=True)
    show_changes(changes, name, first, second)


def show_several(result: Evaluation, worst: int) -> None:
    """Means side by side; by the first measure, how each differs from the first; and the first one's worst queries."""
    first, *others = result.tasks
    table(
        ["measure", *(task.name for task in result.tasks)],
        [[name, *(f"{task.scores[name].value:.3f}" for task in result.tasks)] for name in first.scores],
    )
    line()
    name = next(iter(first.scores))
    rows = [[first.name, f"{first.scores[name].value:.3f}", interval(first.scores[name]), "", "", ""]]
    for task in others:
        score, difference = task.scores[name], task.differences[name]
        rows.append(
            [
                task.name,
                f"{score.value:.3f}",
                interval(score),
                f"{difference.value:+.3f}",
                interval(difference, signed=True),
                verdict(difference, first, task),
            ]
        )
    table([name, "mean", "95 % interval", f"to {first.name}", "95 % interval", "better"], rows)
    line()
    for task in result.tasks:
        line(f"{task.name}: {latency_of(task.latency)}")
    show_worst(result, worst)
    for other, task in enumerate(others, 1):
        if changes := result.changed(min(worst, CHANGES_SHOWN), other=other):
            line()
            line(f"Changed most by {name} with {task.name}", bold=True)
            show_changes(changes, name, first, task)


def show_changes(changes: Sequence[Change], name: str, first: TaskEvaluation, second: TaskEvaluation) -> None:
    """Queries that two tasks answer differently."""
    for change in changes:
        line(
            f"{change.difference:+.3f}  {change.before.id}  {snippet(change.before.text, QUERY_CHARACTERS)}", bold=True
        )
        for task, each in ((first, change.before), (second, change.after)):
            line(f"        {task.name}: {each.scores[name]:.3f}, {rank_of(each)}")
            show_found(each, 1, indent=10)


def verdict(difference: Score, first: TaskEvaluation, second: TaskEvaluation) -> str:
    """Which task is better; nothing where the interval holds zero."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "not told apart"
    return (second if difference.value > 0 else first).name


def interval(score: Score, *, signed: bool = False) -> str:
    """`0.351 to 0.470`."""
    if score.low is None or score.high is None:
        return "one query only"
    return f"{score.low:+.3f} to {score.high:+.3f}" if signed else f"{score.low:.3f} to {score.high:.3f}"


def latency_of(latency: Latency) -> str:
    """How long a search took, in a sentence."""
    embedding = f", and {latency.embedding_ms:.1f} ms to embed a query" if latency.embedding_ms else ""
    return (
        f"A search for {count(latency.top_k, 'document')} took {latency.median_ms:.1f} ms (median), "
        f"{latency.p95_ms:.1f} ms (p95), {latency.p99_ms:.1f} ms (p99){embedding}."
    )


def show_query(each: QueryResult, score: str, *, judged: bool) -> None:
    """A query: what should have been found, and what was found instead."""
    line(f"{score}  {each.id}  {snippet(each.text, QUERY_CHARACTERS)}", bold=True)
    if judged:
        line(f"       {rank_of(each)}; lacking: {', '.join(each.lacking) or 'none'}")
        show_found(each, IDS_SHOWN)
    else:
        line(f"       lacking: {', '.join(each.lacking)}")


def rank_of(each: QueryResult) -> str:
    """Where the first relevant document stands."""
    of = count(each.relevant, "relevant document")
    return f"none of {of} found" if each.first_relevant is None else f"first of {of} at rank {each.first_relevant}"


def show_found(each: QueryResult, most: int, indent: int = 7) -> None:
    """The first documents that were found."""
    for rank, hit in enumerate(each.found[:most], 1):
        grade = "not judged" if hit.grade is None else f"grade {hit.grade}"
        near = "" if hit.similarity is None else f"{hit.similarity:.3f}  "
        what = f"{rank}. {near}{shown_id(hit.id)} ({grade})  {snippet(hit.text, FOUND_CHARACTERS)}"
        line(" " * indent + what)


def remarks(result: Evaluation) -> list[str]:
    """What was left out, and what the numbers suffer from."""
    said = [
        f"{count(len(ids), 'query was', 'queries were')} left out, {reason}: {some_of(ids)}"
        for reason, ids in result.left_out.items()
    ]
    # The modes of a task have its documents in common.
    found = dict.fromkeys([missing_from(task) for task in result.tasks if task.missing])
    found |= dict.fromkeys([unembedded_of(task) for task in result.tasks if task.embedded < task.documents])
    return said + list(found)


def unembedded_of(task: TaskEvaluation) -> str:
    """That some documents cannot be found."""
    return (
        f"{source_of(task)}: {task.embedded:,} of {count(task.documents, 'document')} are embedded; "
        "the others have no text, failed, or wait for a sync"
    )


def missing_from(task: TaskEvaluation) -> str:
    """Which relevant documents cannot be found."""
    are, counted = ("is", "counts") if len(task.missing) == 1 else ("are", "count")
    number = count(len(task.missing), "relevant document")
    return f"{number} {are} not in the source of {source_of(task)}, and {counted} as not found: {some_of(task.missing)}"


def source_of(task: TaskEvaluation) -> str:
    """The task's name, without the mode that it was searched in."""
    return task.name.removesuffix(f" {task.mode}")


def some_of(ids: Sequence[str]) -> str:
    """The first few."""
    return ", ".join(ids[:IDS_SHOWN]) + (", …" if len(ids) > IDS_SHOWN else "")
