"""The whole story, played on this machine: own, need, spare, sell raw, sell managed, reclaim, earn, worth."""
