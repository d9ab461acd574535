"""What is to be done of what the pyramid holds, parcelled out for the stages."""
