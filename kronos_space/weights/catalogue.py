"""The published models, each pinned by revision and checksum. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CatalogueEntry:
    """A published model with the one tokenizer it was trained with, both pinned."""

    name: str  # what KRONOS_MODEL says
    model_id: str
    model_revision: str
    model_sha256: str  # of model.safetensors
    tokenizer_id: str
    tokenizer_revision: str
    tokenizer_sha256: str
    max_context: int  # bars


_TOKENIZER_BASE = {
    "tokenizer_id": "NeoQuasar/Kronos-Tokenizer-base",
    "tokenizer_revision": "0e0117387f39004a9016484a186a908917e22426",
    "tokenizer_sha256": "59d85f6af76a2c3b8240ea06cb21db4213b4eeca053f246b23e29cf832fc6bee",
}

CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="kronos-mini",
            model_id="NeoQuasar/Kronos-mini",
            model_revision="f4e68697d9d5aed55cef5c96aabc3376bcad9f81",
            model_sha256="a7d5f37e2e9fbd9891f7d7d4f72574512dd1f704fee14223e0a8cd0fbf54197c",
            tokenizer_id="NeoQuasar/Kronos-Tokenizer-2k",
            tokenizer_revision="26966d0035065a0cae0ebad7af8ece35bc1fb51c",
            tokenizer_sha256="b97ec46b3b72160509e289183eaf7bdf5f0dac5bb9b49522f6d46638a99a8717",
            max_context=2048,
        ),
        CatalogueEntry(
            name="kronos-small",
            model_id="NeoQuasar/Kronos-small",
            model_revision="901c26c1332695a2a8f243eb2f37243a37bea320",
            model_sha256="b082dfcbd8e8c142a725c8bbb99781802f38fec81210e13479effb32b3c3e020",
            max_context=512,
            **_TOKENIZER_BASE,
        ),
        CatalogueEntry(
            name="kronos-base",
            model_id="NeoQuasar/Kronos-base",
            model_revision="main",  # no revision was pinned; the checksum holds it
            model_sha256="abff193acab6db1a0368e9773e75799d11403b6d054ee6d5f0a11aeabc5f4b83",
            max_context=512,
            **_TOKENIZER_BASE,
        ),
    )
}
