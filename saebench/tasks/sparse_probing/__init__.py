"""Sparse probing: do a few latents tell what a linear probe on the whole activation can?"""
