"""New frames between those of a video, and video files in and out.

Start reading at `model.video.smoothing.interpolate_video`. May import `model.network`, the metrics'
rounding, and the frames and jump cuts of the pipeline.
"""
