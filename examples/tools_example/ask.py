"""An agent with tools. In this folder:

SESSIONFLEET_IMPORTS=shop_tools python ask.py
"""

from shop_tools import charge_card, price_of

from sessions import Session

session = Session("shop-42", user_id="alice")
agent = session.Agent("Shop", instructions="You sell tea and cake.", tools=[price_of, charge_card])

# A real model understands "What does tea cost?"; the offline model calls a tool when a message spells out the call.
print(agent.chat('CALL price_of({"article": "tea"})'))
print(agent.chat('CALL charge_card({"euros": 4})'))
