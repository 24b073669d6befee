"""What attackers and accidents would do to vavl, with a seed and within a time: ``__main__``."""
