
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Protocol
I=TypeVar("I"); R=TypeVar("R")
@dataclass(frozen=True)
class Outcome(Generic[I,R]):
    item: I
    result: R|None=None
    error: BaseException|None=None
    died: str=""
class Executor(Protocol):
    def run(self, work, items): ...
class SerialExecutor:
    def run(self, work, items):
        for item in items:
            try:
                yield Outcome(item, work(item))
            except Exception as e:
                yield Outcome(item, error=e)
