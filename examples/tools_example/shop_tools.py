"""Tools that workers run. Start the workers with SESSIONFLEET_IMPORTS=shop_tools, in this folder."""

from sessions import ToolContext, tool

PRICES = {"tea": 4, "cake": 6}


@tool(retry="safe")
def price_of(article: str) -> str:
    """Look up what an article costs, in euros."""
    return f"{PRICES[article]} euros" if article in PRICES else f"no article {article!r}"


@tool
def charge_card(ctx: ToolContext, euros: int) -> str:
    """Charge an amount to the customer's card."""
    # A payment service that accepts such a key makes the payment once, however often it is asked.
    return f"charged {euros} euros, reference {ctx.idempotency_key}"
