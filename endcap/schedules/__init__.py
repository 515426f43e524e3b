"""Runs that start by themselves: when they are due, what was decided on each, and the process that does one."""
