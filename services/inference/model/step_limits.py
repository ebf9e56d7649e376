"""How large a step can be.

Must not know settings.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepLimits:
    """The most tokens and sequences of one step and tokens of one sequence; and tokens of one page."""

    max_tokens: int
    max_sequences: int
    max_context_tokens: int
    page_tokens: int

    @property
    def max_pages(self) -> int:
        """The most pages of all sequences of a step."""
        return self.max_sequences * -(-self.max_context_tokens // self.page_tokens)
