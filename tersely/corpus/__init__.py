"""Files in, shards out: the pipeline that joins the rooms for whole corpora."""

from tersely.corpus.estimate import Estimate as Estimate
from tersely.corpus.estimate import estimate as estimate
from tersely.corpus.formats import Conversion as Conversion
from tersely.corpus.formats import ConvertProgress as ConvertProgress
from tersely.corpus.formats import Format as Format
from tersely.corpus.formats import convert as convert
from tersely.corpus.prepare import prepare as prepare
from tersely.corpus.read import Batch as Batch
from tersely.corpus.read import OnInvalid as OnInvalid
from tersely.corpus.read import Rejected as Rejected
from tersely.corpus.read import Source as Source
from tersely.corpus.read import Span as Span
from tersely.corpus.sample import SampleSource as SampleSource
from tersely.corpus.sources import InputFormat as InputFormat
from tersely.corpus.sources import find_sources as find_sources
from tersely.corpus.texts import read_texts as read_texts
from tersely.corpus.train import Settings as Settings
from tersely.corpus.train import TrainProgress as TrainProgress
from tersely.corpus.train import TrainReport as TrainReport
from tersely.corpus.train import train as train
from tersely.corpus.train_code import CodeTraining as CodeTraining
from tersely.corpus.train_code import train_code as train_code
