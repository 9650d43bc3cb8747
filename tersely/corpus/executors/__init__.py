"""How independent tasks are run: in this process, in processes of this machine, or on a Ray cluster."""

from tersely.corpus.executors.local import LocalExecutor as LocalExecutor
from tersely.corpus.executors.protocol import Executor as Executor
from tersely.corpus.executors.protocol import Outcome as Outcome
from tersely.corpus.executors.ray import RayExecutor as RayExecutor
from tersely.corpus.executors.serial import SerialExecutor as SerialExecutor
