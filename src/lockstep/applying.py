"""From the settings that are there to those that a file declares: the plan, and carrying it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lockstep.accounts import Accounts
from lockstep.declared import TASKS, Declared, Fault, in_lines, of_connection
from lockstep.errors import LockstepError
from lockstep.models.remote.connection import Connection
from lockstep.recipe import DEMANDS, Demand, Task, changed_settings, demand_of
from lockstep.storage.base import Dialect
from lockstep.storage.tasks import StoredTask
from lockstep.tasks import Tasks

Action = Literal["add", "change", "remove"]
SIGNS: Mapping[Action, str] = {"add": "+", "change": "~", "remove": "-"}
EFFECTS: Mapping[Demand, str] = {
    "nothing": "",
    "requantise": "stores its vectors anew beside what serves",
    "rebuild": "builds anew beside what serves",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One change, which is done as a whole or not at all."""

    action: Action
    what: Literal["connection", "task"]
    name: str
    changed: tuple[str, ...] = ()
    """The settings that a change changes, those among them that fall back to their defaults."""
    demand: Demand = "nothing"
    """What it demands of a task's vectors."""
    gives_up: bool = False
    """Whether it gives up what an earlier change is building."""

    def __str__(self) -> str:
        settings = f": {', '.join(self.changed)}" if self.changed else ""
        effect = "gives up what is being built" if self.gives_up else EFFECTS[self.demand]
        return f"{SIGNS[self.action]} {self.what} {self.name}{settings}{f' ({effect})' if effect else ''}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What must be done for a database to have the settings that are declared."""

    steps: tuple[Step, ...]
    """In the order in which they are done: connections, tasks, then what is removed, tasks first."""
    there: Declared
    """What the database had when the plan was made; of a task that is being built anew, what it is built to."""
    declared: Declared
    left: tuple[str, ...] = ()
    """What is not declared and stays, since nothing is to be removed: `task old`."""
    in_use: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Connections that would be removed, if it were not for these tasks that use them."""

    @property
    def unchanged(self) -> int:
        """How many connections and tasks are as they are declared."""
        return len(self.declared.connections) + len(self.declared.tasks) - sum(s.action != "remove" for s in self.steps)

    @property
    def warnings(self) -> list[str]:
        """What a user should know of the connections that are added or changed."""
        touched = [s.name for s in self.steps if s.what == "connection" and s.action != "remove"]
        return [warning for name in touched if (warning := self.declared.connections[name].warning)]


class Applying:
    """Plans, and carries plans out. Safe between threads."""

    def __init__(self, dialect: Dialect, tasks: Tasks, accounts: Accounts) -> None:
        self._dialect = dialect
        self._tasks = tasks
        self._accounts = accounts

    def plan(self, declared: Declared, *, remove: bool) -> Plan:
        """What would have to be done; nothing is changed.

        Args:
            declared: the settings that are wanted.
            remove: whether what is not declared goes.

        Raises:
            LockstepError: something declared does not fit the database; lists all that does not.
        """
        stored = {each.name: each for each in self._tasks.stored()}
        there = Declared(
            {each.name: each for each in self._accounts.connections()},
            {name: self._tasks.task(each.next or each) for name, each in stored.items()},
            self._dialect.location,
        )
        connections = connection_steps(there.connections, declared.connections)
        moved = {step.name for step in connections if "kind" in step.changed}
        tasks = task_steps(there.tasks, declared.tasks, moved)
        tasks = self._checked(tasks, declared, stored, {step.name for step in connections})
        gone = [Step("remove", "task", name) for name in there.tasks if name not in declared.tasks]
        serving = [self._tasks.task(each) for each in stored.values() if not remove or each.name in declared.tasks]
        users = users_of([*serving, *declared.tasks.values()])
        extra = [name for name in there.connections if name not in declared.connections]
        gone += [Step("remove", "connection", name) for name in extra if not (remove and name in users)]
        return Plan(
            (*connections, *tasks, *(gone if remove else ())),
            there,
            declared,
            () if remove else tuple(f"{step.what} {step.name}" for step in gone),
            {name: users[name] for name in extra if name in users} if remove else {},
        )

    def apply(self, plan: Plan) -> None:
        """Carry a plan out, step by step.

        Raises:
            LockstepError: a step failed; says which, and which were done before it.
        """
        done: list[str] = []
        for step in plan.steps:
            try:
                self._do(step, plan.declared)
            except LockstepError as exc:
                before = f"Done before it: {', '.join(done)}." if done else "Nothing was done before it."
                exc.message = f'"{step}" could not be done: {exc.message} {before}'
                raise
            done.append(f'"{step}"')

    def _do(self, step: Step, declared: Declared) -> None:
        if step.what == "connection":
            if step.action == "remove":
                now = users_of(self._tasks.task(each) for each in self._tasks.stored())
                self._accounts.remove(step.name, list(now.get(step.name, ())))
            else:
                self._accounts.add(declared.connections[step.name], replace=step.action == "change")
        elif step.action == "remove":
            self._tasks.remove(step.name)
        elif step.action == "add":
            self._tasks.add(declared.tasks[step.name])
        else:
            wanted = declared.tasks[step.name]
            edit = self._tasks.plan_edit(step.name, **settings_of(wanted))
            self._tasks.edit(replace(edit, task=wanted))

    def _checked(
        self, steps: list[Step], declared: Declared, stored: Mapping[str, StoredTask], pending: set[str]
    ) -> list[Step]:
        """The steps with what they demand; those that cannot be done are found before any is.

        Raises:
            LockstepError: of the kind of the first problem; lists all.
        """
        found: list[Step] = []
        problems: list[tuple[str, LockstepError]] = []
        for step in steps:
            task = declared.tasks[step.name]
            # A model cannot be opened before its connection is there.
            opens = task.model.partition(":")[0] not in pending
            try:
                self._check_source(task)
                if step.action == "change":
                    found.append(self._demand(step, stored[step.name], task, opens=opens))
                    continue
                found.append(step)
                if opens:
                    self._tasks.trial(task)
            except LockstepError as exc:
                problems.append((str(Fault((TASKS, task.name), str(exc))), exc))
        if problems:
            first = problems[0][1]
            first.message, first.hint = in_lines(declared.origin, [line for line, _ in problems]), ""
            raise first
        return found

    def _check_source(self, task: Task) -> None:
        with self._dialect.begin(write=False) as connection:
            self._tasks.checked(connection, task)

    def _demand(self, step: Step, stored: StoredTask, wanted: Task, *, opens: bool) -> Step:
        """A change with what it demands of the vectors that serve, and of those that are being built."""
        if step.demand == "rebuild":
            return step
        serving = self._tasks.task(stored)
        demand = demand_of(serving, wanted, same_model=serving.model == wanted.model)
        if opens:
            demand = self._tasks.plan_edit(step.name, **settings_of(wanted)).demand
        if stored.next is None:
            return replace(step, demand=demand)
        if demand == "nothing":
            return replace(step, gives_up=True, demand=demand)
        latest = self._tasks.task(stored.next)
        goes_on = demand_of(latest, wanted, same_model=latest.model == wanted.model) == "nothing"
        return replace(step, demand="nothing" if goes_on else demand)


def connection_steps(there: Mapping[str, Connection], wanted: Mapping[str, Connection]) -> list[Step]:
    """What makes connections as they are wanted."""
    steps = [Step("add", "connection", name) for name in wanted if name not in there]
    for name, connection in wanted.items():
        if name in there and (changed := differing_names(of_connection(there[name]), of_connection(connection))):
            steps.append(Step("change", "connection", name, changed))
    return steps


def task_steps(there: Mapping[str, Task], wanted: Mapping[str, Task], moved: set[str]) -> list[Step]:
    """What makes tasks as they are wanted.

    Args:
        there: the tasks as they are.
        wanted: as they are declared.
        moved: connections that become another service's: the models of their tasks are others, whatever their names.
    """
    steps = []
    for name, task in wanted.items():
        if name not in there:
            steps.append(Step("add", "task", name))
            continue
        changed = changed_settings(there[name], task)
        if task.model.partition(":")[0] in moved:
            steps.append(Step("change", "task", name, changed or ("model",), "rebuild"))
        elif changed:
            steps.append(Step("change", "task", name, changed))
    return steps


def differing_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings in which two differ, those first that are in `after`."""
    return tuple(name for name in {**after, **before} if before.get(name) != after.get(name))


def settings_of(task: Task) -> dict[str, Any]:
    """All settings of a task that a change may change, but for whether it is enabled."""
    return {name: getattr(task, name) for name in DEMANDS if name != "enabled"}


def users_of(tasks: Iterable[Task]) -> dict[str, tuple[str, ...]]:
    """The tasks that use a connection, by its name."""
    users: dict[str, list[str]] = {}
    for task in tasks:
        names = users.setdefault(task.model.partition(":")[0], [])
        if task.name not in names:
            names.append(task.name)
    return {name: tuple(found) for name, found in users.items()}
