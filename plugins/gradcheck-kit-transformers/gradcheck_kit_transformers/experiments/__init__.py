"""The experiments of this pack: each makes one of its facts. They import torch."""
