from . import collections as collections
