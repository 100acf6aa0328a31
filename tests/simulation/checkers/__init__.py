"""One checker per invariant. `scene.py` says which watch a run and which are asked at its end."""
