"""Tests that hold servers to times. They run alone: beside other tests a server is late for no fault of its own."""
