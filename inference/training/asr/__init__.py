"""Training a Whisper-architecture recogniser from scratch on synthetic telephone speech."""
