"""Lossless archives: arithmetic coding under a model that mixes the opinions of many contexts, in integers alone."""

from tersely.compress.archive.files import SUFFIX as SUFFIX
from tersely.compress.archive.files import compress_file as compress_file
from tersely.compress.archive.files import decompress_file as decompress_file
from tersely.compress.archive.stream import Report as Report
from tersely.compress.archive.stream import compress_stream as compress_stream
from tersely.compress.archive.stream import decompress_stream as decompress_stream
