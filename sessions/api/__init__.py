"""What users hold: sessions, agents, turns, teams, and what their methods do."""
