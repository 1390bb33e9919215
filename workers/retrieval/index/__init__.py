"""The KnowledgeIndex on Qdrant, embedded in this process or on a server. Importing this loads neither of them."""

from workers.retrieval.index.factory import FOLDER, open_index
from workers.retrieval.index.names import default_collection, valid_collection
from workers.retrieval.index.ownership import IndexLock, home_id, try_claim

__all__ = ["FOLDER", "IndexLock", "default_collection", "home_id", "open_index", "try_claim", "valid_collection"]
