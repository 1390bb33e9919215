"""A first conversation. Run it twice: the second process knows what you told the first one.

python examples/first_chat.py "My name is Alice"
python examples/first_chat.py "What is my name?"
"""

import sys

from sessions import Agent

agent = Agent(name="Assistant", instructions="You are helpful", memory={"session_id": "first-chat"})
print(agent.start(sys.argv[1] if len(sys.argv) > 1 else "My name is Alice"))
