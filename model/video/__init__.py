"""New frames between those of a video, and video files in and out.

Start reading at `model.video.smoothing.interpolate_video`. `model.video.properties` describes a
source, `OutputFormat` in `model.video.codecs` what is written; `model.video.planes` is all that is
known of pixels.

May import: `model`, `model.network`, `pipeline`, `pipeline.flow`, `pipeline.frames`,
`pipeline.selection`, `pipeline.simd`.
"""
