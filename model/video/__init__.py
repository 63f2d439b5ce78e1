"""New frames between those of a video, and video files in and out.

Start reading at `model.video.smoothing.interpolate_video`.

May import: `model`, `model.network`, `pipeline`, `pipeline.flow`, `pipeline.frames`,
`pipeline.selection`, `pipeline.simd`.
"""
