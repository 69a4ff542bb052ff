"""Records in the formats of other tools, and numbers of other tools beside ours."""
