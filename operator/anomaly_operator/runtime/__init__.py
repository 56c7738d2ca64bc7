"""The running operator: triggers, queue, and the loop of observing, planning and executing."""
