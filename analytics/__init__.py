"""What a scored call is: transcripts, records, scorecards, evidence, talk metrics, evaluation and the simulator."""
