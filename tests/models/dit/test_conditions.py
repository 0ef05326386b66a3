"""A network with its conditions bound is a function of latents and timesteps."""

from dataclasses import fields

import torch

from cosmos_nemo.models.dit.conditions import Conditions

TEXT = torch.randn(1, 2, 3)


def test_every_condition_reaches_the_network_under_the_name_of_its_argument():
    given = {field.name: torch.randn(1) for field in fields(Conditions)}
    seen = {}

    def network(x, timesteps, crossattn_emb_B_L_E, **others):
        seen.update(x=x, timesteps=timesteps, crossattn_emb_B_L_E=crossattn_emb_B_L_E, **others)
        return x + 1

    x, timesteps = torch.zeros(1), torch.ones(1)
    assert torch.equal(Conditions(**given).bind(network)(x, timesteps), x + 1)
    assert seen == {"x": x, "timesteps": timesteps, **given}


def test_absent_conditions_stay_absent_on_another_device():
    moved = Conditions(crossattn_emb_B_L_E=TEXT, fps_B=torch.ones(1)).to("meta")
    assert moved.crossattn_emb_B_L_E.is_meta and moved.fps_B.is_meta
    assert moved.condition_mask_B_1_T_H_W is None and moved.padding_mask_B_1_H_W is None
