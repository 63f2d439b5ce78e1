"""What lies on disk: patches and flows in Zarr v3, and patches in other projects' layouts.

Start reading at `pipeline.store.patch_store.PatchStore`.

May import: `pipeline`.
"""
