"""`PatchStore` under the name that others may import; see `pipeline.store.patch_store`."""

from pipeline.store.patch_store import PatchStore as PatchStore
