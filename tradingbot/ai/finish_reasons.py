"""Detect why a language model stopped: normally, or by a limit, a filter or a refusal."""

from typing import Any

from langchain_core.messages import AIMessage

from tradingbot.formatting import quoted

# each provider uses other names: OpenAI, Anthropic, Google, Mistral, Bedrock, Ollama
CUT_OFF = {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
FILTERED = {
    "content_filter", "content_filtered", "safety", "recitation", "blocklist",
    "prohibited_content", "spii", "guardrail_intervened",
}  # fmt: skip


def why_unfinished(answer: AIMessage) -> str | None:
    """Return why the answer is incomplete, for an AIError, or None."""
    reason = finish_reason(answer)
    quote = f": {quoted(answer.text, 200)!r}" if answer.text.strip() else ""
    refusal = _refusal(answer)
    if refusal or reason == "refusal":
        return "refuses to answer" + (f": {quoted(refusal, 300)!r}" if refusal else quote)
    if reason in CUT_OFF:
        return (
            f"was cut off at its limit of tokens (finish_reason={reason}) after "
            f"{len(answer.text):,} characters{quote}"
        )
    if reason in FILTERED:
        return f"was stopped by a content filter (finish_reason={reason}){quote}"
    if reason == "error":
        return f"failed while it answered (finish_reason=error){quote}"
    return None


def finish_reason(answer: AIMessage) -> str:
    """Return the provider's finish reason of this answer, or ""."""
    metadata = answer.response_metadata
    for name in ("finish_reason", "stop_reason", "stopReason", "done_reason"):
        if metadata.get(name):
            return quoted(metadata[name], 40).lower()
    return ""


def _refusal(answer: AIMessage) -> str:
    """Return the text of a refusal, or "".

    OpenAI sends it in a field next to the content, or in a block of the content.
    """
    refusal = answer.additional_kwargs.get("refusal")
    if refusal:
        return str(refusal)
    blocks: list[Any] = answer.content if isinstance(answer.content, list) else []
    refusals = (
        block.get("refusal")
        for block in blocks
        if isinstance(block, dict) and block.get("type") == "refusal"
    )
    return " ".join(str(text) for text in refusals if text)
