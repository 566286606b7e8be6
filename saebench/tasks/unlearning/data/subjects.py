"""SciQ divided into life science with medicine and other subjects, by a list of words for each of the two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from saebench.harness.questions import Question

# How words begin; those that end in \b are whole words.
_LIFE = re.compile(
    r"""\b(?:
        algae? | allele | amino | amphibian | anatom | animal | antibod | antigen | archaea | arter | arthropod |
        atp\b | autotroph | bacteri | bile\b | biodivers | biolog | biome | birds?\b | birth | blood | bodies |
        body\b | bones?\b | brain | breath | cancer | capillar | carbohydrate | cells?\b | cellular | chloroplast |
        chromosom | cytoplas | decompos | diet | digest | diseas | disorder | dna\b | drug | ears?\b | ecolog |
        ecosystem | eggs?\b | embryo | enzym | eukaryot | evolution | evolv | excret | extracell | eyes?\b | fetal |
        fetus | fish | flower | frog | fung | gamete | genes?\b | genet | genom | gland | glucose | habitat | heart
        | hemoglobin | heterotroph | hormon | human | immun | infect | insect | insulin | intestin | intracell |
        invertebra | kidney | larva | leaf\b | leaves | ligament | lipid | liver | lungs?\b | lymph | mammal | medic
        | meiosis | membrane | metabol | mitochond | mitosis | mollus | multicell | muscle | muscular | nerv | neuro
        | nutri | offspring | organelle | organisms? | organs?\b | ovar | parasit | pathogen | photosynth |
        physiolog | placenta | plants?\b | pollen | predator | pregnan | prey\b | primate | prokaryot | protein |
        protist | puberty | reproduc | reptil | respirat | retina | ribosom | rna\b | roots?\b | seeds?\b | sexual |
        shark | skelet | skin\b | skull | snake | species | sperm | spinal | spine | spores?\b | stems?\b | stomach
        | sugar | symptom | teeth | tendon | tissue | tooth | traits?\b | tumor | unicell | urin | uter | vaccin |
        veins?\b | vertebra | viral | virus | viruses | vitamin | whale | worms?\b
    )""",
    re.VERBOSE,
)
_OTHER = re.compile(
    r"""\b(?:
        accelerat | acid | alkan | asteroid | astronom | atmospher | atom | bases?\b | charge | chemical | chemist |
        circuit | climate | cloud | comet | compounds?\b | crystal | current | densit | earthquake | electric |
        electron | elements?\b | energy | engine | erode | eros | forces?\b | friction | galax | gas\b | gases |
        geolog | glacier | gravit | heat | hydrocarbon | ionic | ions?\b | isotop | laser | lava | lens | lever\b |
        light\b | liquid | machine | magma | magnet | mass\b | metal | mineral | mirror | momentum | moon | motion |
        neutron | nuclear | ocean | orbit | periodic | photon | physic | planet | polymer | precipitat | pressure |
        proton | pulley | quantum | radar | radioactiv | rain | reflect | refract | rocks?\b | sediment | solar |
        solids?\b | solute | solution | solvent | sound\b | spectrum | speed | stars?\b | sun\b | tecton | telescope
        | temperature | thermal | tides?\b | universe | vacuum | veloc | volcan | volt | volume | wavelength |
        waves?\b | weather | wind\b | winds
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Subjects:
    """Questions by subject."""

    life: list[Question]
    other: list[Question]
    left_out: list[Question]  # those with words of both lists, or of neither


def by_subject(questions: Iterable[Question]) -> Subjects:
    """Divide questions into life science with medicine and other subjects.

    A question belongs to a subject if its text or its right answer has a word of that subject's list, and none of the
    other list.
    """
    subjects = Subjects([], [], [])
    for question in questions:
        text = f"{question.text} {question.choices[question.gold]}".lower()
        life, other = (pattern.search(text) is not None for pattern in (_LIFE, _OTHER))
        part = subjects.left_out if life == other else subjects.life if life else subjects.other
        part.append(question)
    return subjects
