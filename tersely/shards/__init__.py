"""The on-disk format of prepared corpora: Arrow shards with a manifest, written and read here only."""

from tersely.shards.columns import IGNORED as IGNORED
from tersely.shards.columns import Shard as Shard
from tersely.shards.fields import write_fields as write_fields
from tersely.shards.index import StoredPieces as StoredPieces
from tersely.shards.journal import Journal as Journal
from tersely.shards.manifest import Manifest as Manifest
from tersely.shards.manifest import Packing as Packing
from tersely.shards.manifest import ShardEntry as ShardEntry
from tersely.shards.manifest import SourceEntry as SourceEntry
from tersely.shards.manifest import TokenizerEntry as TokenizerEntry
from tersely.shards.reader import ShardFolder as ShardFolder
from tersely.shards.verify import verify as verify
from tersely.shards.writer import finish_folder as finish_folder
from tersely.shards.writer import write_shard as write_shard
