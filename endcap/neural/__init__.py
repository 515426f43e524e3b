"""The training core: networks, batches, negatives, losses, optimisers, and how they run on a CPU or a GPU.

It imports the standard library, torch and numpy and nothing else, so that it runs on a machine where Endcap is not
installed. Its settings are frozen dataclasses and its errors ValueError; `endcap.models` says what they mean to a user.
"""
