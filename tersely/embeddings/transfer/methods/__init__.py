"""Ways to make the rows of a new vocabulary from those of the old one.

protocol.py   what they offer
mean.py       the mean of a token's pieces
fit.py        least squares on words, the default for encoders
frequency.py  means, moved to how often tokens occur: the default for decoders
hypernet.py   by a network that was trained for the model
omp.py        sums of shared rows, as in a donor model
focus.py      means of rows of similar tokens
sums.py       what these two share
"""

from tersely.embeddings.transfer.methods.fit import Fit as Fit
from tersely.embeddings.transfer.methods.focus import Focus as Focus
from tersely.embeddings.transfer.methods.frequency import Frequency as Frequency
from tersely.embeddings.transfer.methods.hypernet import Predicted as Predicted
from tersely.embeddings.transfer.methods.mean import Mean as Mean
from tersely.embeddings.transfer.methods.omp import Omp as Omp
from tersely.embeddings.transfer.methods.protocol import Method as Method
from tersely.embeddings.transfer.methods.protocol import MethodName as MethodName
from tersely.embeddings.transfer.methods.protocol import TableName as TableName
