"""Keys and values of tokens that were seen, for generation."""

from __future__ import annotations

from torch import Tensor

from cosmos_nemo.errors import UserError


class KVCache:
    """Keys and values of every layer of one process (its heads, its pipeline stage).

    Give the same cache to every call of the network: the first call takes the prompt, the following ones the tokens
    after it, usually one at a time. Room for ``max_length`` tokens is taken at the first call.

    Attributes:
        max_length: tokens there is room for.
        length: tokens seen so far.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0
        self._own: dict[int, tuple[Tensor, Tensor]] = {}
        self._text: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, k_B_G_S_K: Tensor, v_B_G_S_K: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of the newest tokens of a layer; returns those of all tokens [B, G, L, K].

        `advance` moves on when every layer has stored its own.

        Raises:
            UserError: no room left.
        """
        B, G, S, K = k_B_G_S_K.shape
        stop = self.length + S
        if stop > self.max_length:
            raise UserError(f"{stop} tokens do not fit a cache of max_length={self.max_length}; make a longer one.")
        if layer not in self._own:
            shape = (B, G, self.max_length, K)
            self._own[layer] = k_B_G_S_K.new_empty(shape), v_B_G_S_K.new_empty(shape)
        pair = self._own[layer]
        for kept, new in zip(pair, (k_B_G_S_K, v_B_G_S_K), strict=True):
            kept[:, :, self.length : stop] = new
        return pair[0][:, :, :stop], pair[1][:, :, :stop]

    def advance(self, num_tokens: int) -> None:
        """Says that all layers have stored ``num_tokens`` more."""
        self.length += num_tokens

    def text(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the text in a layer's cross-attention, once stored."""
        return self._text.get(layer)

    def keep_text(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Stores the keys and values of the text: they are the same for every token."""
        self._text[layer] = (k, v)
