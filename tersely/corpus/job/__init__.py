"""One preparation: its frozen plan, its tasks, what is done of them, and how it is finished.

    JobPlan ── tasks ──> run_task (anywhere, in any order) ──> shards, and a journal for each task
                                                                 └──> finish: quarantine.jsonl, manifest.json

A task reads certain parts of the inputs and writes files whose names and bytes depend on the plan alone, so it may be run
twice, and on any machine that sees the folder.
"""

from tersely.corpus.job.done import Done as Done
from tersely.corpus.job.finish import finish as finish
from tersely.corpus.job.place import Place as Place
from tersely.corpus.job.plan import JobPlan as JobPlan
from tersely.corpus.job.plan import Settings as Settings
from tersely.corpus.job.plan import make_plan as make_plan
from tersely.corpus.job.rescue import run_tasks as run_tasks
from tersely.corpus.job.task import Job as Job
