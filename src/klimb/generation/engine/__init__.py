"""The local engine: it prefills prompts once, decodes their completions together, and draws by seed."""
