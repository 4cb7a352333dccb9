"""What has one right answer and serves several papers: networks, replay, losses."""
