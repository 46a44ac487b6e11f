"""The doctor while training: reads the log as it grows, and says at once what it finds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from postlab.doctor.diagnosis import CODES, Finding, diagnose

# Up to here the log is read after every entry; then after every hundredth part of it, so that a run
# of n entries costs n log(n) and not n squared.
ALWAYS = 100


class Watcher:
    """A callback for any Hugging Face trainer that only looks; the events it doesn't define pass.

    A subclass of transformers' TrainerCallback would inherit those, but this module may not import
    transformers: Unsloth has to come before it.
    """

    watches_only = True  # its presence does not change what is trained

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The events that it does not look at."""
        if name.startswith("on_"):
            return lambda *args, **kwargs: None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class DoctorCallback(Watcher):
    """A callback for any Hugging Face trainer: `Trainer(..., callbacks=[DoctorCallback()])`.

    It prints a finding once, when it first appears, and stops the training if you name its code.
    Findings that only explain ("info") are not printed. Early in a run it has only seen the first
    points: look at the log yourself before you stop a run by hand.

    Args:
        stop_on: codes of findings that end the training, such as "nan" or "no_learning_signal".
            The trainer then ends its step, and saves and evaluates as it would at its last one.
        keys: as for `diagnose`: other names of the logged values.
        show: receives one line a finding.
    Attributes:
        findings: what was found, in the order in which it appeared.
        stopped_by: the finding that ended the training, or None.
    Raises:
        ValueError: if `stop_on` holds something that is no code; it names the codes.

    >>> from types import SimpleNamespace
    >>> doctor = DoctorCallback(stop_on={"nan"})
    >>> log = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": float("nan")}]
    >>> state = SimpleNamespace(log_history=log, is_world_process_zero=True, global_step=2)
    >>> control = SimpleNamespace(should_training_stop=False)
    >>> doctor.on_log(None, state, control)  # doctest: +ELLIPSIS
    doctor, step 2: error nan: ...
    doctor, step 2: training stops here, as stop_on names 'nan'
    >>> control.should_training_stop
    True
    """

    def __init__(
        self,
        *,
        stop_on: Collection[str] = (),
        keys: Mapping[str, str] | None = None,
        show: Callable[[str], object] = print,
    ) -> None:
        wanted = {stop_on} if isinstance(stop_on, str) else set(stop_on)
        if unknown := sorted(wanted - CODES.keys()):
            raise ValueError(
                f"stop_on names {', '.join(map(repr, unknown))}; expected codes of findings: "
                f"{', '.join(sorted(CODES))}"
            )
        self.stop_on = wanted
        self.keys = keys
        self.show = show
        self.findings: list[Finding] = []
        self.stopped_by: Finding | None = None
        self._read = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.findings, self.stopped_by, self._read = [], None, 0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if len(state.log_history) - self._read >= max(1, self._read // ALWAYS):
            self._look(state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._look(state, control)

    def _look(self, state: Any, control: Any) -> None:
        self._read = len(state.log_history)
        for finding in diagnose(state.log_history, keys=self.keys):
            if finding.severity == "info" or finding.code in {f.code for f in self.findings}:
                continue
            self.findings.append(finding)
            # Every process of a launch sees the same log and stops alike, but one of them prints.
            show = self.show if state.is_world_process_zero else _silent
            show(f"doctor, step {state.global_step}: {finding}")
            if finding.code in self.stop_on and self.stopped_by is None:
                self.stopped_by = finding
                control.should_training_stop = True
                show(
                    f"doctor, step {state.global_step}: training stops here, as stop_on names "
                    f"{finding.code!r}"
                )


def _silent(line: str) -> None:
    """Show nothing."""
