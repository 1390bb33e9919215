"""An answer that is an object: validated by the worker, asked for again if it does not fit, validated here."""

from pydantic import BaseModel

from sessions import Session


class Order(BaseModel):
    """An order."""

    article: str
    pieces: int


agent = Session().Agent("Clerk", instructions="Read the order.", output_type=Order)
order = agent.chat("Two pieces of cake, please.")
print(type(order).__name__, order)
