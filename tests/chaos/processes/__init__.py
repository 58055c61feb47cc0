"""The processes of a campaign: what is killed, and what kills and watches."""
