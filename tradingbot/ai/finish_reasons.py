"""Why a language model stopped: at its own end, or at a limit, a filter or a refusal."""

from typing import Any

from langchain_core.messages import AIMessage

from tradingbot.formatting import quoted

# each provider has its own words: OpenAI, Anthropic, Google, Mistral, Bedrock, Ollama
CUT_OFF = {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
FILTERED = {
    "content_filter", "content_filtered", "safety", "recitation", "blocklist",
    "prohibited_content", "spii", "guardrail_intervened",
}  # fmt: skip


def why_unfinished(answer: AIMessage) -> str | None:
    """Why this is not the answer that the model wanted to give, for an AIError; else None."""
    reason = finish_reason(answer)
    said = f": {quoted(answer.text, 200)!r}" if answer.text.strip() else ""
    refusal = _refusal(answer)
    if refusal or reason == "refusal":
        return "refuses to answer" + (f": {quoted(refusal, 300)!r}" if refusal else said)
    if reason in CUT_OFF:
        return (
            f"was cut off at its limit of tokens (finish_reason={reason}) after "
            f"{len(answer.text):,} characters{said}"
        )
    if reason in FILTERED:
        return f"was stopped by a content filter (finish_reason={reason}){said}"
    if reason == "error":
        return f"failed while it answered (finish_reason=error){said}"
    return None


def finish_reason(answer: AIMessage) -> str:
    """The provider's word for the end of this answer, or ""."""
    metadata = answer.response_metadata
    for name in ("finish_reason", "stop_reason", "stopReason", "done_reason"):
        if metadata.get(name):
            return quoted(metadata[name], 40).lower()
    return ""


def _refusal(answer: AIMessage) -> str:
    """OpenAI says it beside the content, or in a block of it."""
    beside = answer.additional_kwargs.get("refusal")
    if beside:
        return str(beside)
    blocks: list[Any] = answer.content if isinstance(answer.content, list) else []
    said = (
        block.get("refusal")
        for block in blocks
        if isinstance(block, dict) and block.get("type") == "refusal"
    )
    return " ".join(str(text) for text in said if text)
