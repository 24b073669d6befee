"""How files of sound and pictures end: what is looked for in folders and taken from tables."""

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff"})

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".webm", ".flv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts"}
)

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
"""Of the frames in a folder."""
