"""What was made of what: from a version to the files of the log that its model learnt, and back."""

from endcap.lineage.artifacts import TracedArtifact, trace_artifact
from endcap.lineage.descendants import FileUse, trace_file
from endcap.lineage.difference import Difference, compare_versions
from endcap.lineage.ranking import read_version
from endcap.lineage.source_files import UsedFile, list_used_files
from endcap.lineage.tombstones import Tombstone, find_tombstone
from endcap.lineage.version_lineage import VersionLineage, trace_version

__all__ = [
    "Difference",
    "FileUse",
    "Tombstone",
    "TracedArtifact",
    "UsedFile",
    "VersionLineage",
    "compare_versions",
    "find_tombstone",
    "list_used_files",
    "read_version",
    "trace_artifact",
    "trace_file",
    "trace_version",
]
