"""Frames in order: folders of images and video files behind one class, decoded one at a time.

Start reading at `pipeline.frames.sequences.open_frames`.

May import: `pipeline`.
"""
