"""Decisions: pure, standard library only; time enters as `now`."""
