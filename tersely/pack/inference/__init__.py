"""Packed inference with models of transformers: prefill, generation, scores and embeddings without padding."""

from tersely.pack.inference.compare import PrefillComparison as PrefillComparison
from tersely.pack.inference.compare import Way as Way
from tersely.pack.inference.compare import compare_prefill as compare_prefill
from tersely.pack.inference.embed import Pooling as Pooling
from tersely.pack.inference.embed import embed as embed
from tersely.pack.inference.generate import Completion as Completion
from tersely.pack.inference.generate import generate as generate
from tersely.pack.inference.generate import generate_stream as generate_stream
from tersely.pack.inference.prefill import Prefilled as Prefilled
from tersely.pack.inference.prefill import PrefillReport as PrefillReport
from tersely.pack.inference.prefill import prefill as prefill
from tersely.pack.inference.score import Score as Score
from tersely.pack.inference.score import score as score
