"""OpenAI's face: its clients ask for texts, pictures and speech of apps."""
