"""Passing results on: model cards, networks in exchange formats, and runs as RO-Crates.

Start reading at `model.sharing.card.write_card`.

May import: `model.evaluation`, `model.network`, `pipeline`.
"""
