"""What a campaign must find: the accounts that are held against each other."""
